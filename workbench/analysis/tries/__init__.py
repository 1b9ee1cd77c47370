"""What many tries are worth: coverage, voting, verifying."""
