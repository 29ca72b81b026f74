// Every word of the rules, with its default or an example. `watchdog help rules` prints this file.
// It loads, but it is not meant to be used as a whole: begin with rules.groovy or `watchdog setup`.
//
// Commands run in the folder of the rules, without a shell: no ~, $HOME, | or && but in sh '…'.
// Rules are Groovy: variables, if, for and functions work. Give the types of a function:
//     String web(String name) { "https://${name}.example.com/" }
// Durations: 300.milliseconds, 10.seconds, 2.minutes, 1.hour, 7.days

// ---- At the top of the file ---------------------------------------------------------------------

path '~/bin', '/opt/tools'                      // folders to search for programs first
deadline 4.minutes                              // the longest time that a whole pass may take
heartbeat 'https://hc-ping.com/your-uuid'       // a URL to request at the end of each pass
metrics '/var/lib/prometheus/node-exporter/watchdog.prom'  // for Prometheus, after each pass
def web = restart { run 'true' }                // a remedy for several watches; once a pass

// `host` is the name of this machine, or the variable WATCHDOG_HOST, if it is set.
if (host == 'mini') watch('disk') { command './disk.sh' }

// ---- Notifications ------------------------------------------------------------------------------
// Each `notify` line is one way to notify you: at the top for every watch, in a watch for that one.
// `url:` of pushover, ntfy and telegram is the server without a path.
// `url:` of slack and discord is the whole address of the webhook.
// secret('NAME') is taken from the environment, or else from the file rules.secrets beside the
// rules: lines of NAME=value, protected by chmod 600.

notify pushover(token: secret('T'), user: secret('U'), priority: 0, sound: 'pushover',
    device: 'phone')
notify ntfy(topic: 'my-topic', token: secret('NTFY'), priority: 3, tags: ['house'],
    url: 'https://ntfy.sh')
notify ntfy(topic: 'my-topic', url: 'https://ntfy.local', trust: 'ca.pem')
    // trust: the PEM file of your own certificate authority; also of slack and webhook
notify ntfy(topic: 'my-topic', url: "https://me:${secret('NTFY_PASSWORD')}@ntfy.local")
notify slack(url: secret('SLACK'))
notify telegram(token: secret('BOT'), chat: '12345')
notify webhook('https://example.com/hook')      // JSON: kind, watch, title, text, at, since
notify webhook('https://example.com/hook', headers: ['X-Key': secret('KEY')]) { event ->
    [text: event.title]                         // the JSON to send
}
notify command('/usr/bin/logger')               // title and text are the last argument, and in the
    // variables WATCHDOG_EVENT, WATCHDOG_WATCH, WATCHDOG_TITLE, WATCHDOG_TEXT, _AT and _SINCE
notify command('apprise --config apprise.yml --body')  // more than 100 services
notify command('''sh -c 'echo "$WATCHDOG_TEXT" | mail -s "$WATCHDOG_TITLE" me@example.com' ''')
    // only the title names the watch; between ''' a $ is left for the shell
notify { event ->                               // custom Groovy code
    println "$event.watch: $event.kind: $event.title. $event.text ($event.at, $event.since)"
}

// `on:` selects the kinds of message; default: all. `orElse:` is used when the first way does not
// accept the message.
//     down          before the first restart
//     healed        healthy after a restart           recovered     healthy without a restart
//     still_down    the first restart did not help    gave_up       the restart limit is reached
//     flapping      down again soon after recovery    reminder      see `remind`
//     inconclusive  not judged for an hour            rules_broken  the rules have mistakes
notify discord(url: secret('DISCORD')), on: [down, healed, still_down, gave_up, flapping, recovered,
    reminder, inconclusive, rules_broken], orElse: command('/bin/echo')

// ---- What to check ------------------------------------------------------------------------------

watch('internet') { tcp '1.1.1.1:443' }         // a connection is enough
watch('backup') { command './check.sh' }        // exit code 0 is healthy; not started: inconclusive

watch("everything on $host") {
    url 'https://example.com/health'
    connectTo '127.0.0.1:32400'                 // the same request, past the tunnel
    method 'POST'                               // default: GET; with send: POST
    header 'Accept', 'application/json'
    basicAuth 'user', secret('PASSWORD')        // or bearer secret('TOKEN')
    send '{"ping": true}', type: 'application/json'
    followRedirects sameHost                    // default; or none, any; never from https to http
    timeout 10.seconds                          // the whole check: DNS, connection, TLS, body
    attempts 2, every: 2.seconds                // tries before it counts as unhealthy
    samples 5, good: 3                          // 5 connections, 3 must be healthy; default: 1
    needs 'internet'                            // while it is unhealthy, this is not judged

    // Every line must be true. Default: status in 200..299
    healthy {
        status in [200, 204]                    // of a command: its exit code
        body ==~ /(?s).*pong.*/                 // of a command: what it printed
        header('Content-Type') != null
        headers['server'] != 'teapot'           // names in lower case
        json('a.b[0].c') == 'ok'                // a value of a JSON body
        json('queue.size') < 10
        time < 2.seconds
        url.startsWith('https://')              // the URL after redirects
        protocol in ['h2', 'http/1.1']
        certificate.expiresIn > 14.days         // also certificate.subject, certificate.issuer
    }

    // ---- What to do about it --------------------------------------------------------------------
    // The first restart whose `when` is true is used. If there is none, the restarts without `when`
    // are used in the order of this file: the next one when the last one did not help.
    // A restart without steps means: do not restart for this cause. For a wrong certificate nothing
    // is restarted unless a `when` names `tls`. `error` is `none` if there was a response.
    restart(when: { error in [refused, unreachable, timeout, reset, closed, tls] }) {
        // `stop` ends what begins with these words: 'java' would be every Java program of yours.
        stop 'my-server --port 80', grace: 10.seconds  // SIGTERM, then SIGKILL after `grace`
        start 'my-server --port 80', log: 'my-server.log'  // goes on after the pass; log: optional
        run 'systemctl --user restart my-server', timeout: 1.minute  // waits for its end
        sh 'ip link | grep -q wlan0'            // /bin/sh, for pipes and variables
        pause 3.seconds
        call { println 'custom Groovy code' }   // runs during the restart, as one of its steps
    }
    restart(when: { error == unknownHost }) { }
    restart(when: { error != none }) { run 'true' }
    restart web                                 // the remedy from the top of the file

    failures 1                                  // k of the last 2k-1 passes before an incident
    within 30.seconds                           // time to be healthy after a restart
    limit 3, per: 1.hour                        // the restart limit
    remind 1.day                                // repeats "still down" after this silence
}

watch('own certificate authority') {
    url 'https://nas.local/'
    bearer secret('TOKEN')
    trust 'ca.pem'                              // trusted in addition to the system's
}
