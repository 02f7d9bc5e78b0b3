"""Does consensus generalize better? What is run, running it, and what it says."""
