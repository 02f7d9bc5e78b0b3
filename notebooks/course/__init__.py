"""The lessons' own code: problems, the study, figures, panels and the checks of exercises."""
