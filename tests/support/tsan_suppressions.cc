// libzmq is not built with the sanitizer, which therefore does not see its atomics and takes memory
// handed over by them for a race. Only what happens inside libzmq is ignored.
extern "C" const char* __tsan_default_suppressions() { return "called_from_lib:libzmq.so\n"; }
