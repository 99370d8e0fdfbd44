"""The front door: reads each request one way, decides in memory who is calling, and passes it on."""
