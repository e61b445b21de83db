#!/bin/sh
# The entry point of the containers: every efface command, or the three positional arguments of a BIDS App
# (BIDS_DIR OUT_DIR participant|group [OPTIONS]), which mean `efface study`.
set -eu
case "${3:-}" in
    participant | group) [ "${1:-}" = study ] || set -- study "$@" ;;
esac
exec efface "$@"
