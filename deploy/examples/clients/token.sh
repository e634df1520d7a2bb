#!/bin/sh
# Prints a usable access token of Token Broker; needs curl.
#
#   token=$(./token.sh directory) || exit      ask for each use: the broker keeps it fresh
#   token=$(./token.sh --refresh directory)    once, when the API answered 401 to the one before
#
# On failure nothing on stdout, one line on stderr, and exit code 1.
set -eu
export LC_ALL=C # in others, a-z has more letters

fail() { printf 'token broker: %s\n' "$1" >&2; exit 1; }

header() { printf '%s\n' "$answer" | sed -n "1,/^\$/s/^$1: *//p"; }

# A member of an error, whose texts hold no quotes but escaped ones.
member() { printf '%s\n' "$answer" | sed -n 's/.*"'"$1"'":"\(\([^"\\]\|\\.\)*\)".*/\1/p' | sed 's/\\\(.\)/\1/g'; }

method=GET path=''
if [ "${1-}" = --refresh ]; then method=POST path=/refresh; shift; fi
name=${1-}
nl='
'
[ ${#name} -le 63 ] || name=''
case $name in ''|*[!a-z0-9._-]*|[._-]*) fail 'bad_name: names have a-z, 0-9, ".", "_" and "-"' ;; esac
socket=${TOKEN_BROKER_SOCKET:-unix:///run/token-broker/api.sock}
case $socket in unix:///*) ;; *) fail 'TOKEN_BROKER_SOCKET has to be unix:///PATH' ;; esac

absent=0 broken=0 waited=0
while :; do
  code=0
  # -q: no ~/.curlrc. 15 s: the broker waits for its server for 10 s. 256 KiB: it reads no larger answers itself.
  answer=$(curl -q --silent --include --noproxy '*' --max-time 15 --max-filesize 262144 --request "$method" \
    --unix-socket "${socket#unix://}" --header 'Accept: text/plain' "http://localhost/v1/tokens/$name$path") || code=$?
  [ ${#answer} -le 262144 ] || fail 'answer_too_large' # curl before 8.4 believes those that do not say so
  answer=$(printf '%s' "$answer" | tr -d '\r')
  case $code$answer in 0*"$nl$nl"*) ;; 0*) code=52 ;; esac # curl takes half a head for a whole answer
  case $code in
    0) ;;
    7) # Nobody there: a broker that restarts is back within a second or so.
      absent=$((absent + 1))
      [ $absent -lt 10 ] || fail "unreachable: nobody answers at ${socket#unix://}, or it may not be opened"
      sleep 0.1; continue ;;
    18 | 52 | 55 | 56) # It went away before it had answered: once more, and not for ever.
      broken=$((broken + 1))
      [ $broken -lt 2 ] || fail 'unreachable: the connection broke twice before an answer'
      continue ;;
    28) fail 'unreachable: no answer within 15 s' ;;
    63) fail 'answer_too_large' ;;
    *) fail "unreachable: curl ended with $code" ;;
  esac
  status=$(printf '%s\n' "$answer" | sed -n '1s/^[^ ]* \([0-9]*\).*/\1/p')
  case $status in
    200) printf '%s\n' "$answer" | sed '1,/^$/d'; exit 0 ;;
    429 | 503) # Not now: as long as it says, twice, and not at all where that is long.
      seconds=$(header '[Rr]etry-[Aa]fter'); case $seconds in ''|*[!0-9]*) seconds=1 ;; esac
      if [ $waited -lt 2 ] && [ "$seconds" -le 10 ]; then waited=$((waited + 1)); sleep "$seconds"; continue; fi ;;
  esac
  hint=$(member hint)
  # 409 consent_required: only a person can help, and the hint says how.
  fail "$(member error) ($status): ${hint:-$(member error_description)}"
done
