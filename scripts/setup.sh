#!/usr/bin/env bash
# Makes .venv with the package in it; quick when nothing changed. Usage: scripts/setup.sh [extra]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extra=${1:-}
venv="$root/.venv"
stamp="$venv/.stamp${extra:+-$extra}"
wanted=$(cat "$root/requirements.txt" "$root/pyproject.toml" | sha256sum | cut -d' ' -f1)

if [[ -x "$venv/bin/python" && -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
    exit 0
fi
if [[ ! -x "$venv/bin/python" ]]; then
    echo "Making $venv" >&2
    python3 -m venv "$venv"
fi
echo "Installing what is missing from requirements.txt" >&2
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" -r "$root/requirements.txt"
if [[ -n "$extra" ]]; then
    "${pip[@]}" -e "$root[$extra]"
else
    "${pip[@]}" --no-deps -e "$root"
fi
echo "$wanted" | tee "$stamp" > "$venv/.stamp" # an extra brings the base along
