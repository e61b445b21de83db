"""Virtual people made from one real head: anatomy, acquisition, data set."""
