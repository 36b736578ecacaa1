"""Write a fitted model as a bundle of files, and check them."""
