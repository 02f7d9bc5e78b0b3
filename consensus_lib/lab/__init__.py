"""The lab: the course's figures and panels."""
