"""The claims of a fast run are decided as before: `python .ci/check_claims.py CLAIMS.json`; --write keeps new ones."""

import json
import sys
from pathlib import Path

KEPT = Path(__file__).with_name("fast_verdicts.json")
LEAST = 8  # that are decided

found = {entry["claim"]: entry["verdict"] for entry in json.loads(Path(sys.argv[1]).read_text())}
if "--write" in sys.argv:
    KEPT.write_text(json.dumps(found, indent=1) + "\n")
kept = json.loads(KEPT.read_text())
if sum(verdict in ("holds", "fails") for verdict in found.values()) < LEAST:
    sys.exit(f"fewer than {LEAST} claims are decided: {found}")
changed = [name for name in kept | found if kept.get(name) != found.get(name)]
if changed:
    sys.exit("; ".join(f"{name}: {kept.get(name)} before, {found.get(name)} now" for name in changed))
