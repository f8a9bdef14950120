SELECT cluster_key, max(probed_at) FROM mart.detectability GROUP BY cluster_key
