"""Tables out of packages, a module for each package."""
