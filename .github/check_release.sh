#!/usr/bin/env bash
# check_release.sh TAG: refuse a tag that differs from the version, or a version that CHANGELOG.md does not describe.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=$1
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' esg_transformers/__init__.py)
if [ "$tag" != "v$version" ]; then
    echo "The tag is $tag and the version $version (esg_transformers/__init__.py). Tag v$version, or change the version." >&2
    exit 1
fi
if ! grep -q "^## $version " CHANGELOG.md; then
    echo "CHANGELOG.md has no section '## $version'. Add it before tagging." >&2
    exit 1
fi
echo "$tag is the version, and CHANGELOG.md describes it."
