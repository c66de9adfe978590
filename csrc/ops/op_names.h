// What the names of the ops begin with. A second library with the same ops, as the tests have it, is compiled with
// another one.
#ifndef FUSEMIN_TENSORFLOW_OP_NAMES_H_
#define FUSEMIN_TENSORFLOW_OP_NAMES_H_

#ifndef FUSEMIN_OPS
#define FUSEMIN_OPS "Fusemin>"
#endif

#endif  // FUSEMIN_TENSORFLOW_OP_NAMES_H_
