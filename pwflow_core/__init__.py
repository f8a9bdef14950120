"""pwflow: calibrated anomaly scores from one normalizing flow per operating regime."""
