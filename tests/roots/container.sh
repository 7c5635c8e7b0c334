#!/usr/bin/env bash
# Runs the lines of the Dockerfile, one by one, in a minimal system of its distribution; then tests the result: Jupyter
# serves the chapter, doctor finds everything, a net trains. Docker is not needed: tests/roots/container.sh
#
# COPY copies the files of HEAD; WORKDIR makes a folder owned by root, as in Docker.
set -euo pipefail
dockerfile=$(dirname "$0")/../../Dockerfile
suite=$(sed -n 's/^FROM debian:\(.*\)-slim$/\1/p' "$dockerfile")
minimal=$suite-slim
packages=
source "$(dirname "$0")/root.sh"

user=root folder=/ command=
variables=(HOME=/root)
while read -r instruction rest; do
  case $instruction in
    FROM | "#"* | "") continue ;;
    RUN)
      inside "$user" "cd $folder && $rest" </dev/null
      copy_settings # installing ca-certificates writes a bundle of its own
      ;;
    ENV) eval "variables+=($rest)" ;; # NAME=value NAME=value
    USER)
      user=$rest
      variables+=(HOME="/home/$user")
      keep_downloads "$user"
      ;;
    WORKDIR)
      folder=$rest
      mkdir -p "$root$folder"
      ;;
    COPY)
      [ "$rest" = "--chown=$user . ." ] || { echo "error: this COPY is not known here: $rest" >&2; exit 2; }
      git -C "$(dirname "$0")/../.." archive HEAD | inside "$user" "cd $folder && tar -x"
      ;;
    EXPOSE) [ "$rest" = 8888 ] ;; # Jupyter's own port
    CMD) command=$rest ;;
    *) echo "error: $dockerfile: unknown instruction $instruction" >&2; exit 2 ;;
  esac
  say "$instruction $rest"
done < <(sed -e ':line' -e '/\\$/{N;s/\\\n//;b line' -e '}' "$dockerfile")
[ -n "$command" ] || { echo "error: $dockerfile has no CMD" >&2; exit 2; }

# JSON's list of words -> the shell's; the log has the address with its token.
words=$(tr -d '[],' <<<"$command")
inside "$user" "cd $folder && exec $words >~/jupyter.log 2>&1" &
inside "$user" "cd $folder && python -" <<'EOF' || { cat "$root/home/$user/jupyter.log"; exit 1; }
import json
import re
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

log, found = Path.home() / "jupyter.log", None
for second in range(120):
    text = log.read_text() if log.exists() else ""
    if found := re.search(r"(http://127\.0\.0\.1:\d+)(/lab/tree/notebooks/lenet\.ipynb)\?token=(\w+)", text):
        break
    time.sleep(1)
host, page, token = found.groups()
get = build_opener(ProxyHandler({})).open  # no proxy
assert b"JupyterLab" in get(f"{host}{page}?token={token}").read()
cells = json.load(get(f"{host}/api/contents/notebooks/lenet.ipynb?token={token}"))["content"]["cells"]
print(f"{host}{page} answers; the chapter has {len(cells)} cells")
EOF
say "Jupyter opens the chapter"
inside "$user" "cd $folder && python -m gluon_lenet.doctor && make train ARGS='--epochs 1'"
say "the chapter runs"
