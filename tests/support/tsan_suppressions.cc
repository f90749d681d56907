// libzmq and the libsodium that encrypts for it are not built with the sanitizer, which therefore
// does not see libzmq's atomics and takes memory handed over by them for a race. Only accesses made
// inside these two libraries are ignored.
extern "C" const char* __tsan_default_suppressions() {
  return "called_from_lib:libzmq.so\n"
         "called_from_lib:libsodium.so\n";
}
