#!/usr/bin/env bash
# A dead man's switch for the orders of a Kraken account.
#
# usage: switch.bash [--help]
#
# While it runs, it tells Kraken every 20 seconds to cancel all orders a minute later. So if this
# machine or its network fails, no order stays open for longer than a minute. Each answer of Kraken's
# is a line on stdout; its triggerTime is when the orders would be cancelled.
#
# Ctrl-C and SIGTERM disarm the switch at once, and the orders stay open. If it is killed in another
# way, or its terminal is closed, Kraken cancels the orders when the minute is over.
#
# It needs kraken_token.py beside itself (whose --help says which key that needs) and krakenws.py
# beside itself or in its checkout. Activate the virtual environment with websocket-client first.
#
# When something fails, stderr says so, and the switch tries again after 20 seconds. When Kraken has
# refused a token three times, it tries again only every 16 minutes, because Kraken locks a key out
# for as long as somebody keeps trying. Meanwhile it is NOT armed: Kraken cancels the orders when the
# last minute is over, and nothing protects the orders that are placed after that.
#
# exit status: 0 if it was disarmed, and 1 if it was not

here=$(dirname "$(realpath "$0" 2> /dev/null || echo "$0")")
client=$here/krakenws.py
[ -f "$client" ] || client=$here/../../krakenws.py
refused=0 # tokens in a row
REFUSED=101

arm() { # SECONDS, or 0 to disarm. It runs in a process of its own, which becomes the client.
    token=$("$here/kraken_token.py") || exit $((100 + $?))
    exec "$client" -rqC1 -W 10 --token-file /dev/stdin cancelAllOrdersAfter "timeout=$1" <<< "$token"
}

disarm() {
    trap '' INT TERM
    kill $! 2> /dev/null
    wait # for a request that is under way: none may come behind the one that disarms
    [ $refused -lt 3 ] && (arm 0) && exit 0
    echo "Not disarmed: Kraken cancels the orders when the last minute is over" >&2
    exit 1
}

print_help() { # which is the comment above
    while IFS= read -r line && [ "$line" ]; do
        [[ $line == "#!"* ]] || { line=${line#"#"} && echo "${line# }"; }
    done < "$0"
}

if [ $# -gt 0 ]; then
    print_help
    [ "$*" = -h ] || [ "$*" = --help ]
    exit
elif [ ! -f "$client" ]; then
    echo "krakenws.py is neither in $here nor in $here/../.." >&2
    exit 1
fi

trap disarm INT TERM
while :; do
    arm 60 & # in the background, where it does not hold up a signal
    wait $!
    status=$?
    [ $status = 0 ] && refused=0
    [ $status = $REFUSED ] && refused=$((refused + 1))
    pause=20
    if [ $refused -ge 3 ]; then
        pause=960
        echo "NOT ARMED: no token, $refused times. Kraken cancels the orders when the last minute is" \
            "over. Next try in 16 minutes: a lockout lasts as long as somebody keeps trying" >&2
    elif [ $status != 0 ]; then
        echo "Not armed again (status $status). Next try in 20 seconds" >&2
    fi
    sleep $pause &
    wait $!
done
