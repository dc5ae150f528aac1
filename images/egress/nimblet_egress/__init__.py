# SPDX-License-Identifier: Apache-2.0
"""The one way out to places that tenants name: allowed hosts, checked addresses, bounded redirects, credentials.

A library of the loader and the indexer, so that there is one wall and not two. It must not know what it carries.
"""
