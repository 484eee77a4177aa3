"""The package behind the book: one module a chapter, named by what the chapter is about."""
