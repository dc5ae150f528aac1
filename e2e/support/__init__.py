# SPDX-License-Identifier: Apache-2.0
"""What the scenarios, the demo and the benchmark share: the installed stack, kubectl with types, waiting, asking.

It stands where a user stands: kubectl, helm and the OpenAI client. It must not call the operator's own code,
apart from parsing its API's types.
"""
