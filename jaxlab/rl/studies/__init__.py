"""The claims of the paper, study by study."""
