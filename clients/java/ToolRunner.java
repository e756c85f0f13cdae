// SPDX-License-Identifier: Apache-2.0

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command line tools one after another in one JVM, because starting a JVM costs more than most tools.
 * Arguments: the jars and folders that every run loads anew, so that no static state outlives a run.
 * Each line on stdin is one run: stdin file, stdout file, stderr file, main class, arguments; separated by tabs.
 * Each run is answered by a line "exit STATUS" once its shutdown hooks have run too.
 */
public final class ToolRunner {
    private static final class Exited extends Error {
        final int status;

        Exited(int status) {
            super("exit " + status, null, false, false);
            this.status = status;
        }
    }

    public static void main(String[] args) throws Exception {
        URL[] loadedAnew = new URL[args.length];
        for (int i = 0; i < args.length; i++) {
            loadedAnew[i] = Path.of(args[i]).toUri().toURL();
        }
        PrintStream answers = System.out;
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream ownErrors = System.err;
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] fields = line.split("\t", -1);
            int status;
            try (InputStream in = new BufferedInputStream(new FileInputStream(fields[0]));
                    PrintStream out = output(fields[1]);
                    PrintStream errors = output(fields[2])) {
                System.setIn(in);
                System.setOut(out);
                System.setErr(errors);
                status = run(loadedAnew, fields[3], Arrays.copyOfRange(fields, 4, fields.length), errors);
            } finally {
                System.setErr(ownErrors);
            }
            answers.println("exit " + status);
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static PrintStream output(String file) throws Exception {
        return new PrintStream(new BufferedOutputStream(new FileOutputStream(file), 1 << 16), false, StandardCharsets.UTF_8);
    }

    private static int run(URL[] loadedAnew, String mainClass, String[] args, PrintStream errors) throws Exception {
        List<Runnable> hooks = new ArrayList<>();
        // A tool that catches what ends it, and exits again, has still exited the first time.
        AtomicReference<Integer> firstStatus = new AtomicReference<>();
        Exit.Procedure exit = (status, message) -> {
            if (message != null) {
                errors.println(message);
            }
            firstStatus.compareAndSet(null, status);
            throw new Exited(firstStatus.get());
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> {
            synchronized (hooks) {
                hooks.add(hook);
            }
        });
        int status = 0;
        try (URLClassLoader loader = new URLClassLoader(loadedAnew, ToolRunner.class.getClassLoader())) {
            Thread.currentThread().setContextClassLoader(loader);
            try {
                loader.loadClass(mainClass).getMethod("main", String[].class).invoke(null, (Object) args);
            } catch (InvocationTargetException e) {
                if (e.getCause() instanceof Exited exited) {
                    status = exited.status;
                } else {
                    e.getCause().printStackTrace(errors);
                    status = 1;
                }
            }
            for (Runnable hook : hooks) {
                hook.run();
            }
        } finally {
            Thread.currentThread().setContextClassLoader(ToolRunner.class.getClassLoader());
        }
        return status;
    }
}
