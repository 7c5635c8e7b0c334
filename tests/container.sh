#!/usr/bin/env bash
# The lines of the Dockerfile, one by one, in a minimal system of the distribution that it names; then what its container
# is for: Jupyter answers with the chapter, doctor finds everything, a net trains. Docker is not needed: tests/container.sh
#
# What stands for what: COPY copies the files of HEAD; WORKDIR makes a folder of root's, as Docker does.
set -euo pipefail
dockerfile=$(dirname "$0")/../Dockerfile
suite=$(sed -n 's/^FROM debian:\(.*\)-slim$/\1/p' "$dockerfile")
minimal=$suite-slim
packages=
source "$(dirname "$0")/root.sh"

user=root folder=/ command=
variables=(HOME=/root)
while read -r instruction rest; do
  case $instruction in
    FROM | "#"* | "") continue ;;
    RUN) inside "$user" "cd $folder && $rest" ;;
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
      git -C "$(dirname "$0")/.." archive HEAD | inside "$user" "cd $folder && tar -x"
      ;;
    EXPOSE) [ "$rest" = 8888 ] ;; # Jupyter's own port
    CMD) command=$rest ;;
    *) echo "error: $dockerfile: unknown instruction $instruction" >&2; exit 2 ;;
  esac
  say "$instruction $rest"
done < <(sed -e ':line' -e '/\\$/{N;s/\\\n//;b line' -e '}' "$dockerfile")
[ -n "$command" ] || { echo "error: $dockerfile has no CMD" >&2; exit 2; }

# JSON's list of words is a Python list; the log has the address with its token.
inside "$user" "cd $folder && exec python -c 'import os, sys; os.execvp(sys.argv[1], sys.argv[1:])' \
  $(tr -d '[],' <<<"$command") >~/jupyter.log 2>&1" &
inside "$user" "cd $folder && python -c '
import json, re, time, urllib.request
from pathlib import Path
for second in range(120):
    found = re.search(r\"(http://127.0.0.1:\d+)/lab/tree/notebooks/lenet.ipynb\?token=(\w+)\", Path(\"../jupyter.log\").read_text())
    if found:
        break
    time.sleep(1)
host, token = found.groups()
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
page = urllib.request.urlopen(found[0]).read().decode()
assert \"JupyterLab\" in page, page
chapter = json.load(urllib.request.urlopen(f\"{host}/api/contents/notebooks/lenet.ipynb?token={token}\"))
assert chapter[\"content\"][\"cells\"]
print(found[0].partition(\"?\")[0], \"answers with\", len(chapter[\"content\"][\"cells\"]), \"cells\")
' || { cat ~/jupyter.log; exit 1; }"
say "Jupyter opens the chapter"
inside "$user" "cd $folder && python -m gluon_lenet.doctor"
inside "$user" "cd $folder && make train ARGS='--epochs 1'"
say "the chapter runs"
