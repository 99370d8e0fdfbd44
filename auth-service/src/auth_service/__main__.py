"""`python -m auth_service`: the operator's commands."""

from auth_service.cli import main

main()
