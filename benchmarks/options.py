"""Types of options that several benchmarks have."""


def whole_numbers(text: str) -> list[int]:
    """An argparse type: "17,18" as [17, 18]. argparse names the option and the text of anything else."""
    return [int(number) for number in text.split(",")]
