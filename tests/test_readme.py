import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_examples_run_one_after_another():
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {})
