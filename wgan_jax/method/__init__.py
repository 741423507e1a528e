"""The mathematics of the papers: pure functions that know no setting, file, clock, device or network of ours."""
