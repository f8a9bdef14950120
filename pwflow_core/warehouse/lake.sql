-- How the files of a lake are cut: what is replaced by regime lies by regime, what arrives by day lies by day.

ALTER TABLE core.cluster_assignments SET PARTITIONED BY (cluster_key);
ALTER TABLE core.component_log_density SET PARTITIONED BY (cluster_key);
ALTER TABLE core.readings SET PARTITIONED BY (year(ts), month(ts), day(ts));
ALTER TABLE mart.anomaly_scores SET PARTITIONED BY (year(ts), month(ts), day(ts));
