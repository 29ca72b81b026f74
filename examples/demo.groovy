// A service to play with: a tiny web server, DemoService.java beside this file. It ends by itself after 10 minutes.
//
//   1. Run the demo. Nothing is there yet: watchdog finds it down, starts it, and looks again until it is well.
//   2. Run it again. Healthy; nothing is done.
//   3. Kill it, and run the demo again. It is healed, as another process:
//          curl http://127.0.0.1:18765/          (says the number of its process)
//          kill NUMBER
//   4. Make it sick rather than dead, and run the demo again. See which condition failed, and on what value:
//          curl http://127.0.0.1:18765/sick
//   5. Edit this file: misspell a word, ask for another text, choose another port. The next run takes your edit.

def port = 18765
def demo = "java DemoService.java $port"    // commands run in the folder of this file

watch('demo') {
    url "http://127.0.0.1:$port/"
    timeout 5.seconds
    healthy {                               // every line is a condition
        status == 200
        body.contains('demo is alive')
    }
    restart {
        stop  demo                          // whatever still runs with these words; nothing there is fine
        start demo                          // detached: it stays when watchdog has gone. Add  log: 'demo.log'  to keep what it prints
    }
    within 30.seconds                       // how long it may take to be healthy again
}
