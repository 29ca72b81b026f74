// Many machines. Each one has rules like these and restarts its own services. Prometheus collects
// the results by node_exporter, and Alertmanager notifies you: prometheus-alerts.yml has the
// alerts.
// Start node_exporter with --collector.textfile.directory=/var/lib/prometheus/node-exporter
// and make that folder writable for the user whose crontab runs watchdog.
metrics '/var/lib/prometheus/node-exporter/watchdog.prom'

watch("website of $host") {
    url 'http://localhost/health'
    restart { run 'sudo -n systemctl restart nginx' }
}
