// A service in a Docker container. Docker restarts a container that has ended; watchdog restarts
// one that runs but does not answer.
//
// cron's user needs the right to use docker (on Linux the group `docker`, which is as good as
// root).

notify ntfy(topic: 'choose-a-long-random-name')

watch('jellyfin') {
    url 'http://127.0.0.1:8096/health'
    healthy { body.trim() == 'Healthy' }
    restart { run 'docker restart jellyfin', timeout: 1.minute }
    within 2.minutes                        // it loads its library first
}
