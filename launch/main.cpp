// The program `longscan`.
int main() { return 0; }
