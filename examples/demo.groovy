// A small web server to try watchdog with: DemoService.java in this folder. It ends in 10 minutes.
// Run each command in the checkout.
//
//   1. ./jbangw demo
//          The service is down. watchdog starts it and checks until it is healthy.
//   2. ./jbangw demo
//          The service is healthy. watchdog does nothing.
//   3. Kill the service. Its page contains the number of its process:
//          curl http://127.0.0.1:18765/
//          kill NUMBER
//      Run the demo again: watchdog starts the service as another process.
//   4. Make the service answer with an error, and run the demo again:
//          curl http://127.0.0.1:18765/sick
//      watchdog prints the condition that is not true, stops the service and starts it.
//   5. Edit this file, for example misspell a word, and run the demo again.
//
// After 3 restarts in an hour watchdog has reached the restart limit, and only reports.

def port = 18765
def demo = "java DemoService.java $port"    // a command runs in the folder of this file

watch('demo') {
    url "http://127.0.0.1:$port/"
    timeout 5.seconds
    healthy {                               // every line must be true
        status == 200
        body.contains('demo is alive')
    }
    restart {
        stop  demo                          // no such process is fine
        start demo                          // the service goes on when watchdog has ended
    }
    within 30.seconds                       // time to be healthy after a restart
}
