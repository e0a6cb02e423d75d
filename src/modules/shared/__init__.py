"""What every module may use: a small kernel and the infrastructure behind it. Knows no business."""
