"""How good labels are: metrics against ground truth, the baselines that lifting has to beat, confidence calibration."""
