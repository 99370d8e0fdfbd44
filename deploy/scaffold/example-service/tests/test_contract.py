"""What is published is what is served."""

from example_service.contract import PATH, document


def test_the_contract_is_up_to_date() -> None:
    assert PATH.read_text("utf-8") == document(), "run: make contract SERVICE=example-service"
