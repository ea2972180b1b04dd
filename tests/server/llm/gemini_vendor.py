"""The vendor's own messages of Gemini, as referees."""

import warnings

with warnings.catch_warnings():
    # It warns of versions of grpcio that its makers will want one day; nothing here connects anywhere.
    warnings.filterwarnings("ignore", ".*grpcio < 1.83.0 does not support", FutureWarning)
    from google.ai.generativelanguage_v1beta import types as vendor

__all__ = ["vendor"]
