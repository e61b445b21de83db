"""How the weights and priors that ship with efface were made; runnable again, never imported by what runs on scans."""
