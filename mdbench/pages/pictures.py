"""Pictures in pages."""

from __future__ import annotations

import base64
import io

from matplotlib.figure import Figure


def data_uri(figure: Figure) -> str:
    """The picture, to stand in a page itself."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
