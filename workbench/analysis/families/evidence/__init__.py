"""Evidence: uncertainty of differences, rankings and confidences, and the sample sizes needed."""
