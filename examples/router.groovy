// No internet: switch the modem off and on by a smart plug. Here Home Assistant does that, in an
// automation with a webhook as its trigger. It is in the same house and reachable without internet.

notify pushover(token: secret('PUSHOVER_TOKEN'), user: secret('PUSHOVER_USER'))

watch('home assistant') { tcp 'homeassistant.local:8123' }

watch('internet') {
    tcp '1.1.1.1:443'
    needs 'home assistant'                  // if that fails too, the fault is in this machine
    failures 3                              // 3 of 5 passes: not for a short break
    restart {
        run 'curl -fsS -m 10 -X POST http://homeassistant.local:8123/api/webhook/restart-modem'
    }
    within 3.minutes                        // a modem takes its time
    limit 2, per: 12.hours                  // the provider's outage is not ended by a restart
}
