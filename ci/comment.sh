#!/usr/bin/env bash
# Put a Markdown page on a pull request as one comment, in place of the comment of the same title before it.
#     PULL_REQUEST=12 ci/comment.sh results/gate.md "Gate on a GPU"
# Needs GitHub's command line, gh, signed in or with GH_TOKEN.
set -euo pipefail
page=${1:?a Markdown file} title=${2:?a title} number=${PULL_REQUEST:?the number of the pull request}

marker="<!-- ${title} -->"
repository=$(gh repo view --json nameWithOwner --jq .nameWithOwner)
body=$(printf '%s\n### %s\n\n%s\n' "$marker" "$title" "$(cat "$page")")
before=$(gh api --paginate "repos/$repository/issues/$number/comments" \
    --jq ".[] | select(.body | startswith(\"$marker\")) | .id" | head -n 1)
if [ -n "$before" ]; then
    gh api --method PATCH "repos/$repository/issues/comments/$before" -f body="$body" > /dev/null
else
    gh api --method POST "repos/$repository/issues/$number/comments" -f body="$body" > /dev/null
fi
