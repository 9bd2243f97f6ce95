"""What a dry run prints."""

import json

from pipeline.dry_run import DryRun, Step


def test_a_dry_run_is_a_table_and_a_list(capsys):
    steps = [Step("data", "reuse", "images-0123", "ab", "cd"), Step("compress", "resume", "", "", "")]
    found = DryRun(steps)
    found.show()
    assert capsys.readouterr().out == "data      reuse   images-0123\ncompress  resume\n"
    assert json.loads(json.dumps(found.as_json()))[1] == {
        "stage": "compress",
        "action": "resume",
        "record": "",
        "key": "",
    }
