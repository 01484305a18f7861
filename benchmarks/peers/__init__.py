"""What a user would pick instead: one file for each, with the settings that suit it best."""
