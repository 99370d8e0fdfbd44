"""How any Gatehouse service behaves, never what a service knows."""
