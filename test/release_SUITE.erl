%% The change of code by the real thing: a release is built, booted as a target
%% system is, and upgraded by release_handler, by a .relup that is made of an
%% .appup, and taken back, under numbered traffic. Its application `hatch' has the
%% plugin `grows' in its priv folder, in either version its own.
-module(release_SUITE).

-export([all/0, suite/0]).
-export([init_per_suite/1, end_per_suite/1]).
-compile([export_all, nowarn_export_all]).

-import(esp_test_lib, [eventually/2]).
-import(esp_test_c_node, [vsn_of/1]).
-import(esp_test_traffic, [some/1, finish/1, abandon/1]).

-define(LIMIT, 60_000).
-define(C_NODE, hatch_node).
%% A native head; one on the VM; one whose module in the .appup is another.
-define(CO_OPS, [numbers, mixed, named]).

suite() ->
    [{timetrap, {seconds, 240}}].

all() ->
    [
        a_release_is_upgraded_and_taken_back_under_traffic,
        an_upgrade_that_a_node_refuses_fails
    ].

init_per_suite(Config) ->
    Started = esp_test_lib:start_app(),
    [{started, Started} | Config].

end_per_suite(Config) ->
    esp_test_lib:stop_app(proplists:get_value(started, Config)).

%%% The application, by version

%% The module that has the plugin's name, and is the task of nodes of the VM too.
source(grows, Vsn) ->
    [
        "-module(grows).\n-vsn(\"", Vsn, "\").\n",
        "-export([init/0, stamp/2, code_change/3]).\n",
        "init() -> {<<\"", version(Vsn), "\">>, 0}.\n",
        "stamp({Vsn, N}, Mark = #{by := By}) -> {{Vsn, N + 1}, Mark#{by := By ++ [Vsn]}}.\n",
        "code_change({down, \"1.0\"}, {_, N}, _) -> {ok, {<<\"1\">>, N}};\n",
        "code_change(\"1.0\", {_, N}, _) -> {ok, {<<\"2\">>, N}}.\n"
    ];
source(hatch_named, Vsn) ->
    ["-module(hatch_named).\n-vsn(\"", Vsn, "\").\n"];
source(hatch_sup, Vsn) ->
    [
        "-module(hatch_sup).\n-vsn(\"", Vsn, "\").\n-behaviour(supervisor).\n",
        "-export([start/2, stop/1, init/1]).\n",
        "start(_, _) -> supervisor:start_link({local, ?MODULE}, ?MODULE, []).\n",
        "stop(_) -> ok.\n",
        "init([]) ->\n",
        "    {ok, Receivers} = application:get_env(hatch, receivers),\n",
        "    Node = esp_node:child_spec(#{name => hatch_node}),\n",
        "    Native = fun(Name) -> coop:native(Name, {hatch, grows}, stamp, #{}) end,\n",
        "    Vm = coop:task(v, {grows, stamp}, #{init => {grows, init, []}}),\n",
        "    CoOp = fun(Name, Nodes, More) ->\n",
        "        coop:child_spec(More#{id => Name, name => Name, node => hatch_node,\n",
        "            template => coop_flow:pipeline(Nodes),\n",
        "            receiver => proplists:get_value(Name, Receivers)})\n",
        "    end,\n",
        "    {ok, {#{strategy => rest_for_one, intensity => 0}, [Node,\n",
        "        CoOp(numbers, [Native(a), Native(b), Native(c)], #{}),\n",
        "        CoOp(mixed, [Vm, Native(a), Native(b)], #{restart => body}),\n",
        "        CoOp(named, [Native(a), Native(b)], #{modules => [hatch_named]})]}}.\n"
    ].

version("1.0") -> "1";
version("2.0") -> "2".

plugin("1.0") -> esp_test_c_node:plugin(grows);
plugin("2.0") -> esp_test_c_node:plugin("second", grows);
plugin("3.0") -> esp_test_c_node:plugin("third", grows).

modules() -> [grows, hatch_named, hatch_sup].

%% Lib/hatch-Vsn, as it would be built; its plugin may be of another version.
make_app(Lib, Vsn, PluginVsn) ->
    Dir = filename:join(Lib, "hatch-" ++ Vsn),
    Ebin = filename:join(Dir, "ebin"),
    Priv = filename:join(Dir, "priv"),
    [ok = filelib:ensure_dir(filename:join(D, "x")) || D <- [Ebin, Priv]],
    lists:foreach(
        fun(Module) ->
            File = filename:join(Ebin, atom_to_list(Module) ++ ".erl"),
            ok = file:write_file(File, source(Module, Vsn)),
            {ok, Module} = compile:file(File, [{outdir, Ebin}, report])
        end,
        modules()
    ),
    Change = [{update, M, {advanced, []}} || M <- [grows, hatch_named]],
    term_file(Ebin, "hatch.app",
        {application, hatch, [
            {description, "hatch"},
            {vsn, Vsn},
            {modules, modules()},
            {registered, [hatch_sup]},
            {mod, {hatch_sup, []}},
            {applications, [kernel, stdlib, sasl, erlangsp]}
        ]}),
    Vsn =:= "1.0" orelse
        term_file(Ebin, "hatch.appup", {Vsn, [{"1.0", Change}], [{"1.0", Change}]}),
    {ok, _} = file:copy(plugin(PluginVsn), filename:join(Priv, "grows.so")),
    Ebin.

term_file(Dir, Name, Term) ->
    ok = file:write_file(filename:join(Dir, Name), io_lib:format("~tp.~n", [Term])).

%%% The release

-record(release, {
    root :: file:filename(),
    vm :: undefined | pid(),
    node :: undefined | node()
}).

%% A root of its own, with OTP's applications by links, and version 1.0 installed.
target_system(Config, NewPlugin) ->
    Top = filename:join(proplists:get_value(priv_dir, Config), "target_" ++ NewPlugin),
    Root = filename:join(Top, "root"),
    Staging = filename:join(Top, "staging"),
    Lib = filename:join(Root, "lib"),
    Releases = filename:join(Root, "releases"),
    [ok = filelib:ensure_dir(filename:join(D, "x")) || D <- [Lib, Staging, Releases]],
    Otp = [{App, vsn(App), code:lib_dir(App)} || App <- [kernel, stdlib, sasl]],
    [ok = file:make_symlink(Dir, filename:join(Lib, lists:concat([App, "-", V]))) || {App, V, Dir} <- Otp],
    Erlangsp = {erlangsp, V0, _} = {erlangsp, vsn(erlangsp), code:lib_dir(erlangsp)},
    copy_ebin(filename:join(Lib, "erlangsp-" ++ V0)),
    Ebin1 = make_app(Lib, "1.0", "1.0"),
    Ebin2 = make_app(Staging, "2.0", NewPlugin),
    Path = [filename:join([Lib, lists:concat([App, "-", V]), "ebin"]) || {App, V, _} <- Otp ++ [Erlangsp]],
    Apps = [{App, V} || {App, V, _} <- Otp ++ [Erlangsp]],
    [
        term_file(Staging, "hatch-" ++ Vsn ++ ".rel",
            {release, {"hatch", Vsn}, {erts, erlang:system_info(version)}, Apps ++ [{hatch, Vsn}]})
     || Vsn <- ["1.0", "2.0"]
    ],
    Rel = fun(Vsn) -> filename:join(Staging, "hatch-" ++ Vsn) end,
    term_file(Staging, "sys.config", [{hatch, [{receivers, receivers()}]}]),
    Options = [silent, {outdir, Staging}],
    {ok, _, []} = systools:make_script(Rel("1.0"), [{path, [Ebin1 | Path]} | Options]),
    install(Rel("1.0"), Root, Staging),
    {ok, _, []} = systools:make_script(Rel("2.0"), [{path, [Ebin2 | Path]} | Options]),
    {ok, Relup, systools_relup, []} =
        systools:make_relup(Rel("2.0"), [Rel("1.0")], [Rel("1.0")], [{path, [Ebin1, Ebin2 | Path]} | Options]),
    {"2.0", [{"1.0", _, [_ | _]}], [{"1.0", _, [_ | _]}]} = Relup,
    %% what the target has already is left out
    {ok, _, []} = systools:make_tar(Rel("2.0"), [
        {path, [Ebin2 | Path]}, {variables, [{"HERE", Root}]}, {var_tar, omit} | Options
    ]),
    {ok, _} = file:copy(Rel("2.0") ++ ".tar.gz", filename:join(Releases, "hatch-2.0.tar.gz")),
    #release{root = Root}.

vsn(App) ->
    _ = application:load(App),
    {ok, Vsn} = application:get_key(App, vsn),
    Vsn.

copy_ebin(To) ->
    Ebin = filename:join(To, "ebin"),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    [
        {ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File)))
     || File <- filelib:wildcard(filename:join([code:lib_dir(erlangsp), "ebin", "*.{beam,app}"]))
    ].

install(Rel, Root, Staging) ->
    Releases = filename:join(Root, "releases"),
    Dir = filename:join(Releases, "1.0"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    {ok, _} = file:copy(Rel ++ ".boot", filename:join(Dir, "start.boot")),
    {ok, _} = file:copy(Rel ++ ".rel", filename:join(Dir, "hatch-1.0.rel")),
    {ok, _} = file:copy(filename:join(Staging, "sys.config"), filename:join(Dir, "sys.config")),
    ok = file:write_file(
        filename:join(Releases, "start_erl.data"), [erlang:system_info(version), " 1.0\n"]
    ),
    ok = release_handler:create_RELEASES(
        Root, Releases, filename:join(Dir, "hatch-1.0.rel"), []
    ).

%% The emulator as start_erl starts it: its root is the target's.
boot(Release = #release{root = Root}) ->
    Bin = filename:join([code:root_dir(), "erts-" ++ erlang:system_info(version), "bin"]),
    Dir = filename:join([Root, "releases", "1.0"]),
    {ok, Vm, Node} = peer:start(#{
        name => peer:random_name(hatch),
        host => "127.0.0.1",
        longnames => true,
        connection => standard_io,
        exec => {filename:join(Bin, "erlexec"), []},
        env => [{"ROOTDIR", Root}, {"BINDIR", Bin}, {"EMU", "beam"}, {"PROGNAME", "erl"}],
        args => [
            "-boot", filename:join(Dir, "start"),
            "-config", filename:join(Dir, "sys"),
            "-setcookie", atom_to_list(erlang:get_cookie())
        ],
        wait_boot => ?LIMIT
    }),
    true = net_kernel:connect_node(Node),
    Root = rpc:call(Node, code, root_dir, []),
    Release#release{vm = Vm, node = Node}.

handler(#release{node = Node}, Function, Args) ->
    rpc:call(Node, release_handler, Function, Args, ?LIMIT).

%% 1.0, as it comes up, with traffic through each of its co-ops.
with_traffic(Config, NewPlugin, Fun) ->
    Collectors = [{Name, collector(Name)} || Name <- ?CO_OPS],
    Release = boot(target_system(Config, NewPlugin)),
    #release{node = Node, vm = Vm} = Release,
    Traffic = [{Name, traffic(Node, Name, Collector)} || {Name, Collector} <- Collectors],
    try
        Fun(Release, Traffic)
    after
        peer:stop(Vm),
        [abandon(T) || {_, T} <- Traffic]
    end.

%% Each has a name here, which the release's configuration has as well.
receivers() -> [{Name, {receiver_of(Name), node()}} || Name <- ?CO_OPS].

receiver_of(Name) -> list_to_atom(lists:concat(["receiver_of_", Name])).

collector(Name) ->
    Pid = esp_test_traffic:collector(all),
    true = register(receiver_of(Name), Pid),
    Pid.

traffic(Node, Name, Collector) ->
    Head = rpc:call(Node, coop, head, [Name]),
    T = esp_test_traffic:start(Head, Collector),
    some(T),
    T.

a_release_is_upgraded_and_taken_back_under_traffic(Config) ->
    with_traffic(Config, "2.0", fun(Release, Traffic) ->
        #release{node = Node, root = Root} = Release,
        Heads = heads(Node),
        [{"hatch", "1.0", _, permanent}] = handler(Release, which_releases, []),
        {ok, "2.0"} = handler(Release, unpack_release, ["hatch-2.0"]),
        {ok, "1.0", []} = handler(Release, check_install_release, ["2.0"]),
        {ok, "1.0", []} = handler(Release, install_release, ["2.0"]),
        [<<"2.0.0">>] = versions(Node),
        true = lists:prefix(Root, rpc:call(Node, code, priv_dir, [hatch])),
        "hatch-2.0" = filename:basename(rpc:call(Node, code, lib_dir, [hatch])),
        [some(T) || {_, T} <- Traffic],
        ok = handler(Release, make_permanent, ["2.0"]),
        old_is_gone(Node),
        %% and back
        {ok, "1.0", []} = handler(Release, install_release, ["1.0"]),
        [<<"1.0.0">>] = versions(Node),
        [some(T) || {_, T} <- Traffic],
        ok = handler(Release, make_permanent, ["1.0"]),
        old_is_gone(Node),
        %% the same processes all the while
        Heads = heads(Node),
        [
            begin
                {Sent, [<<"1">>, <<"2">>, <<"1">>]} = finish(T),
                counted(Node, Name, Sent)
            end
         || {Name, T} <- Traffic
        ]
    end).

%% As of any process that does not take its new code, the release is not installed.
an_upgrade_that_a_node_refuses_fails(Config) ->
    with_traffic(Config, "3.0", fun(Release, Traffic) ->
        #release{node = Node} = Release,
        {ok, "2.0"} = handler(Release, unpack_release, ["hatch-2.0"]),
        %% release_handler gives up after the point of no return, and would restart
        %% the VM: so it is asked of one co-op first
        Head = rpc:call(Node, coop, head, [numbers]),
        New = rpc:call(Node, filename, join, [
            [Release#release.root, "lib", "hatch-2.0", "priv", "grows.so"]
        ]),
        {ok, <<"3.0.0">>} = rpc:call(Node, esp_plugin, load, [?C_NODE, grows, New]),
        {error, {_, {{cpp_exception, <<"std::domain_error">>, _}, _}}} =
            rpc:call(Node, esp_plugin, upgrade, [Head, grows, []]),
        [<<"1.0.0">>] = versions(Node),
        [some(T) || {_, T} <- Traffic],
        monitor_node(Node, true),
        _ = handler(Release, install_release, ["2.0"]),
        receive
            {nodedown, Node} -> ok
        after ?LIMIT -> ct:fail(it_was_installed)
        end
    end).

heads(Node) -> [rpc:call(Node, coop, head, [Name]) || Name <- ?CO_OPS].

nodes_of(Node, Name) ->
    #{nodes := Nodes} = rpc:call(Node, coop, info, [Name]),
    Nodes.

versions(Node) ->
    lists:usort([
        vsn_of(Pid)
     || Name <- ?CO_OPS, {N, Pid} <- nodes_of(Node, Name), N =/= v
    ]).

%% Every datum, by every node, in whatever version.
counted(Node, Name, Sent) ->
    [
        case sys:get_state(Pid) of
            #{count := Sent} -> ok;
            {<<"1">>, Sent} -> ok
        end
     || {_, Pid} <- nodes_of(Node, Name)
    ].

old_is_gone(Node) ->
    eventually(old_image_gone, fun() ->
        rpc:call(Node, esp_plugin, soft_purge, [?C_NODE, grows]) =:= true
    end).
