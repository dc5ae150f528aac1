# /// script
# requires-python = ">=3.11"
# dependencies = ["moto[server]>=5.1"]
# ///
# SPDX-License-Identifier: Apache-2.0
"""Runs moto's S3 server; a script with a lock of its own, since its dependencies rule out the operator's."""

import runpy

runpy.run_module("moto.server", run_name="__main__")
