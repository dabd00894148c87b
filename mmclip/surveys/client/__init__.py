"""The only code that touches the network: requests, answers and what is kept of them."""
