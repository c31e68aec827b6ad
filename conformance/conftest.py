"""The conformance tests use the fixtures of mmrec.conformance.plugin, which pytest loads by its entry point."""
