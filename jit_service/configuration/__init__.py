"""How what operators write is read: the forms of settings, the words for what is wrong with one, and files."""
