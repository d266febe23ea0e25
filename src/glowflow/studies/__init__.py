"""The paper's experiments and this project's targets, each measured by one command."""
