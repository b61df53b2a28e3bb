"""Reading and writing of the weights and folders of other libraries."""
