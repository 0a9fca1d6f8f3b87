/* An NVRTC that compiles kernels for the CPU: libnvrtc.so as far as CubeCL calls it. The CUDA C++ that CubeCL wrote is compiled by g++
   with the headers in device/; what NVRTC would return as PTX is the name of the library that comes of it. Kernels with inline PTX
   do not compile. RESULTS and HEADERS are given by run.sh. */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <unistd.h>

struct program {
    std::string source, log, image;
};

enum result { SUCCESS = 0, INVALID_PROGRAM = 4, COMPILATION = 6, UNSUPPORTED = 8 };

static result refuse(program *it, const std::string &why) {
    it->log = why;
    return COMPILATION;
}

/* Of what a source says: CubeCL writes the types before the kernel in any order. */
static std::string hash(const std::string &source, size_t kernel) {
    std::istringstream types(source.substr(0, kernel));
    std::multiset<std::string> lines;
    for (std::string line; std::getline(types, line);) lines.insert(line);
    std::string sorted;
    for (const std::string &line : lines) sorted += line + '\n';
    return std::to_string(std::hash<std::string>{}(sorted + source.substr(kernel)));
}

extern "C" {

result nvrtcVersion(int *major, int *minor) { *major = 13, *minor = 0; return SUCCESS; }
const char *nvrtcGetErrorString(result error) { return error == COMPILATION ? "a kernel does not compile" : "an error of NVRTC"; }
result nvrtcCreateProgram(program **it, const char *source, const char *name, int headers, const char *const *, const char *const *) {
    *it = new program{source, "", ""};
    return SUCCESS;
}
result nvrtcDestroyProgram(program **it) { delete *it; return SUCCESS; }

result nvrtcCompileProgram(program *it, int, const char *const *) {
    std::smatch name;
    if (std::regex_search(it->source, std::regex("\\basm\\b"))) return refuse(it, "inline PTX does not run on a CPU");
    if (!std::regex_search(it->source, name, std::regex("__global__ void __launch_bounds__\\(\\d+\\)\\s*(\\w+)\\s*\\(")))
        return refuse(it, "no kernel found in the source");
    /* Others need no stack for each thread. */
    bool threads_meet = std::regex_search(it->source, std::regex("_sync\\(|__syncthreads|__syncwarp|__activemask"));
    std::string base = RESULTS "/" + hash(it->source, name.position()), library = base + ".so";
    if (access(library.c_str(), R_OK) != 0) {
        /* Under a name of this process first: others may compile the same. */
        std::string own = base + "-" + std::to_string(getpid());
        std::ofstream(own + ".cpp")
            << std::regex_replace(it->source, std::regex("extern __shared__"), "extern")
            << "\n#include <launch.h>\nextern \"C\" __attribute__((visibility(\"default\"))) void launch_kernel(const launch &launch) "
            << "{ run_blocks<" << name[1] << ", " << threads_meet << ">(launch); }\n";
        std::string command = "g++ -std=c++20 -O2 -march=native -fno-exceptions -fno-rtti -fno-strict-aliasing -fno-math-errno "
                              "-fno-trapping-math -fvisibility=hidden -fpermissive -Wno-narrowing -w -fPIC -shared -I" HEADERS " -o " +
                              own + ".so " + own + ".cpp 2>" + own + ".log";
        bool failed = system(command.c_str()) != 0;
        std::ostringstream log;
        log << std::ifstream(own + ".log").rdbuf();
        unlink((own + ".log").c_str());
        rename((own + ".cpp").c_str(), (base + ".cpp").c_str());
        if (failed || rename((own + ".so").c_str(), library.c_str()) != 0) return refuse(it, log.str());
    }
    it->image = "g++ " + library;
    return SUCCESS;
}

result nvrtcGetPTXSize(program *it, size_t *size) { *size = it->image.size() + 1; return SUCCESS; }
result nvrtcGetPTX(program *it, char *image) { strcpy(image, it->image.c_str()); return SUCCESS; }
result nvrtcGetCUBINSize(program *it, size_t *size) { return nvrtcGetPTXSize(it, size); }
result nvrtcGetCUBIN(program *it, char *image) { return nvrtcGetPTX(it, image); }
result nvrtcGetProgramLogSize(program *it, size_t *size) { *size = it->log.size() + 1; return SUCCESS; }
result nvrtcGetProgramLog(program *it, char *log) { strcpy(log, it->log.c_str()); return SUCCESS; }
}
